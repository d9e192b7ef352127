"""The `docker` backend: boxes in containers of an engine, served by an interpreter that we bring along."""
