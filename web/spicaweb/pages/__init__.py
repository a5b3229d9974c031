"""The pages, one module for each topic. Which path leads to which is the affair of app.py."""
