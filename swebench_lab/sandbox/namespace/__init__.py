"""The `namespace` backend: boxes of Linux namespaces over an overlay, as root or as anybody."""
