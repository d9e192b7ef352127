"""Serving: model servers that are started, watched and stopped from a notebook.

server.py   `serve` and the Server it returns: vLLM, one or several replicas, or a server that is already there
guard.py    the small program between us and a server, which ends it when we are gone
"""
