"""From attempts and foreign traces to rows of ids and masks."""
