"""Shares to money: the tariff in force, the price book, the host, carbon; and bills of a load."""
