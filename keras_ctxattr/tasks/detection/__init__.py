"""Detection: how good boxes are, by the rules of PASCAL VOC."""
