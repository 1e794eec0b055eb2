"""The viewer: a web page that shows raw and enhanced frames, live or looked back at."""
