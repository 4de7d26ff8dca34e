"""What is kept between runs, in one SQLite file of the state folder, or in memory without one."""
