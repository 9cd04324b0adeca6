"""Dead letters: what one holds, how the topic is read, and how they are redriven."""
