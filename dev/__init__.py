"""The development room: native services and sample data; nothing here ships to a site."""
