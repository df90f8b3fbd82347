"""Reports: tables, plots and one HTML file."""
