"""What the bench is made of: processes, proxies under test, load, scenarios and the table."""
