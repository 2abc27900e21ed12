"""Pages for readers, made from results alone."""
