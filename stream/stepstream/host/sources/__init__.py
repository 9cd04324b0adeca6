"""Sources: foreign topics whose records become events; the only home of Faust."""
