"""The tables and pictures of the documents, each with the command that makes it."""
