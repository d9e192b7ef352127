"""The `landlock` backend: boxes on machines that refuse namespaces; a private copy of files behind a ruleset."""
