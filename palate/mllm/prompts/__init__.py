"""Prompts: chats made from templates, and text of unknown origin made harmless."""
