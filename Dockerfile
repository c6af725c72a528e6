# The one image of Kubexen: controller, agent and anchor.
#
#   docker build -t kubexen .          from the root of the repository
#   python -m hack.image               without Docker and without a registry, as the tests do
#
# The last stage holds what runs and nothing else: Python, the packages, libvirt's client library and what these link to.
# No shell, no package manager, no compiler. libvirt's bindings are Debian's, built with the library that they come with:
# nothing has to be compiled, and the agent speaks to the host's libvirtd by a protocol that does not depend on versions.
# Nothing of Xen is in here: what is bound to a Xen version is taken from the host, whose /usr is to be mounted at /host/usr.

ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS parts
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends python3-libvirt >/dev/null
# Wheels that were made outside are taken where the build has no registry of packages: --build-arg PIP_NO_INDEX=1
ARG PIP_NO_INDEX
COPY requirements/image.txt wheel[s] /wheels/
RUN python3 -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --find-links /wheels \
    --target /opt/kubexen -r /wheels/image.txt
COPY hack/image/gather.py /
RUN python3 /gather.py /image
COPY operator/kubexen /own/opt/kubexen/kubexen
RUN python3 -m compileall -q --invalidation-mode unchecked-hash -s /own /own/opt/kubexen/kubexen

FROM scratch
COPY --from=parts /image /
# A layer of its own: for the next version a node fetches little else, where the builder still has the layer above.
COPY --from=parts /own /
ENV PATH=/usr/bin PYTHONPATH=/opt/kubexen PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 KUBEXEN_XEN_ROOT=/host
RUN ["python3", "-c", "import libvirt, kubexen.agent.main, kubexen.controller.main"]
USER 65532:65532
# The anchor is what the image does by itself; the other programs are kubexen-controller and kubexen-agent. As the first process of
# its container the anchor has no handler for SIGTERM, and the kernel delivers none without: it ends by SIGKILL only, which the
# agent sends when the domain has left.
CMD ["kubexen-anchor", "infinity"]
