"""The contact sheet of a pair set: what a person looks at before anything is trained on it."""

from training.pairing.contact_sheet.page import write_contact_sheet

__all__ = ["write_contact_sheet"]
