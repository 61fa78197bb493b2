"""What the speed and memory claims of this project are read off; nothing here is a test."""
