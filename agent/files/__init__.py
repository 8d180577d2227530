"""Files and streams as the world has them: opened with care, written whole or not at all, shown without harm to a terminal."""
