"""Serving: model servers that are started, watched and stopped from a notebook, and take the weights of a training.

server.py           `serve` and the Server it returns: vLLM, one or several replicas, or a server that is already there
options.py          how a model is served, and what vLLM is told of it
guard.py            the small program between us and a server, which ends it when we are gone
served.py           `ServedPolicy`: the policy of servers that take other weights, and how they are brought there
replicas.py         the servers of one model, asked all at once
tensors.py          their bytes, as they travel
transfer.py         the ways that weights can take, and the choice among them
transfer_stream.py  over TCP, one tensor after the other
transfer_disk.py    by a file that the servers reload
transfer_nccl.py    from GPU to GPU
engine_plugin/      what vLLM's processes load for the way `stream`
"""
