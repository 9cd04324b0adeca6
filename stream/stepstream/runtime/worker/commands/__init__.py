"""Commands on their way in, and the offsets up to which they are finished."""
