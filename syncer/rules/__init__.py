"""What the user wants, as pure data: rules, the tags and platforms they select, shards. No I/O."""
