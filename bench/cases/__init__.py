"""The cases: families of work, our way of doing them, their floors, and the rows with their targets."""
