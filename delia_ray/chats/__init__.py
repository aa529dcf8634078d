"""What a chat template writes around an answer, found by asking the template itself.

``format`` makes the prompt that generation starts from a beginning of the whole chat, ``thoughts``
parts a thought from the answer behind it, ``spans`` says where in a text an answer ends, and
``encode`` makes tokens of chats, with the mask of those that count in the loss.
"""
