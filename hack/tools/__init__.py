"""The pinned command line tools of tests and demo: one go.mod a family, built from the Go module proxy."""
