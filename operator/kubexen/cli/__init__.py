"""`kubectl xen`: what a person runs beside kubectl. It talks to the API server only, with that person's own rights."""
