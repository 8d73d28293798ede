"""Peak GPU memory in closed form: what the plan screen recomputes on every keystroke."""
