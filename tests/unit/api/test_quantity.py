"""Quantities: what is read, what is refused, and the canonical form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubexen.api.quantity import KIB, LARGEST, MIB, Quantity

READ = {
    "mebibytes": ("512Mi", 512 * MIB, "512Mi"),
    "gibibytes": ("1Gi", 1024 * MIB, "1Gi"),
    "to the greatest unit": ("2048Mi", 2048 * MIB, "2Gi"),
    "to a smaller unit": ("1.5Gi", 1536 * MIB, "1536Mi"),
    "decimal unit": ("1G", 10**9, "1000000000"),
    "decimal unit with a binary form": ("1024k", 1024000, "1000Ki"),
    "bytes as a number": (536870912, 512 * MIB, "512Mi"),
    "bytes as a string": ("536870912", 512 * MIB, "512Mi"),
    "odd bytes": (1023, 1023, "1023"),
    "part of a byte rounds up": ("0.0001Ki", 1, "1"),
    "exact, not floating": ("0.1Gi", 107374183, "107374183"),
    "tebibytes": ("3Ti", 3 * 1024**4, "3Ti"),
    "nothing": ("0", 0, "0"),
}

REFUSED: list[object] = ["", "Mi", "512 Mi", "512MB", "512mi", "-1", "1e3", "1.Gi", ".5Gi", "٣Mi", "512Mi\n"]
REFUSED_VALUES: list[object] = ["9000000Pi", 2**63, -1, 1.5, True, None, [], {}]


@pytest.mark.parametrize("written, size, canonical", READ.values(), ids=READ)
def test_reads(written: object, size: int, canonical: str) -> None:
    quantity = Quantity.parse(written)
    assert (int(quantity), str(quantity)) == (size, canonical)


@pytest.mark.parametrize("written", REFUSED + REFUSED_VALUES, ids=repr)
def test_refuses(written: object) -> None:
    with pytest.raises(ValueError):
        Quantity.parse(written)


def test_units_round_up() -> None:
    assert (Quantity(MIB + 1).mib, Quantity(KIB + 1).kib) == (2, 2)
    assert (Quantity(MIB).mib, Quantity.from_mib(3), Quantity.from_kib(3)) == (1, 3 * MIB, 3 * KIB)


@given(st.integers(min_value=0, max_value=LARGEST))
def test_canonical_form_reads_back(size: int) -> None:
    assert Quantity.parse(str(Quantity(size))) == size
