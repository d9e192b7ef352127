"""The viewer application: runs, attempts and steps, in a browser, in a notebook, and as a folder of pages."""
