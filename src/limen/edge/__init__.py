"""The data plane: enforcement points, one process each. They open what a grant says and decide nothing."""
