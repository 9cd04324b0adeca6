"""Dead letters: finding them in their topic, and sending them again."""
