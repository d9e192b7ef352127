"""What the kernel offers, as plain functions: mounts, namespaces, filters, signals and sockets. Standard library only."""
