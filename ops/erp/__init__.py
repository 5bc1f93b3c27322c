"""A throw-away Tryton with a company in it, in a virtual environment and a process of its own."""
