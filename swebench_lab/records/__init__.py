"""Records: the nouns as frozen data, and pure functions over them."""
