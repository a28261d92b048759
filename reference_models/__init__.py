"""Reference networks whose samples the metrics score."""
