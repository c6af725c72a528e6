"""What lies on the host's storage: files of pools, and disks' data. Blocking; the agent calls it in threads."""
