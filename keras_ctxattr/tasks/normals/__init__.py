"""Surface normals: from depth, by a network from photographs, and how well they are predicted.

Two lines predict by what `training.finetune_normals` has learnt:

    from keras_ctxattr.tasks.normals.predicting import load_normals_model
    normals = load_normals_model("runs/normals").predict(photograph)
"""
