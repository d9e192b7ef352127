"""Programs that run inside the sandbox; nothing here is imported by the package.

They are read as text and handed to the sandbox's own interpreter, so they use the standard library only and nothing
newer than Python 3.7: a machine may be as old as that.
"""
