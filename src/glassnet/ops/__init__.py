"""Operations: one signature each (base), and the complete NumPy backend that defines what is right."""
