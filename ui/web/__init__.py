"""The pages in the browser: Gradio, mounted by `rwkvsearch serve`."""
