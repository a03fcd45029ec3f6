import torch
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(32, 16)
        self.head = nn.Linear(16, 1)

    def forward(self, images):
        features = torch.relu(self.encoder(images))
        return self.head(features.detach())


model = Net()
optimizer = torch.optim.Adam(model.parameters())
images, targets = torch.randn(64, 32), torch.randn(64, 1)

optimizer.zero_grad()
loss = nn.functional.mse_loss(model(images), targets)
loss.backward()
optimizer.step()
