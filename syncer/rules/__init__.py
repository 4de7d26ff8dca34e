"""Rules as pure data: the tags and platforms they select, and how shards divide them. No I/O."""
