"""State that is kept between runs: one SQLite file in the state folder, or memory if there is no folder."""
