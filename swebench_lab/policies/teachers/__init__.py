"""Teachers: attempts made from gold patches, without a model."""
