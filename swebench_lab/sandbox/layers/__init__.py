"""Layers: what boxes changed, as trees of files that agents wrote and that nothing here trusts.

Captured from a box, merged, packed, unpacked, looked into and removed. Everything works from open directories and follows
no link. Only the standard library is used, because most of it runs in a process without the rest of the package: a branch
of the zygote, or the first process of a container.
"""
