"""The model that is trained: where it comes from, how it is spread over processes, how it is written."""
