"""Read reports that were published: open, unpack, and load them."""
