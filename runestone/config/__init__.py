"""What runestone.toml may say (`schema`), how it is read strictly (`reader`), and what stands in for it when it is
absent (`load`).
"""
