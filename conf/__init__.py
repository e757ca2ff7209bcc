"""Configurations of every command, composed by Hydra."""
