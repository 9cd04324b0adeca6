"""What pages are built from: layout, forms, components."""
