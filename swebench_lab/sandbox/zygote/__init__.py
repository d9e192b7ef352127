"""The process that makes boxes of namespaces, what it is told, and this side of it."""
