"""One module per page: reads from the rooms, shapes rows, renders a template."""
