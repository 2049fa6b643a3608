import torch
from torch import nn
import torch.nn.functional as F
def correlation_map(w1,w2): return torch.softmax(w1.transpose(1,2)@w2/w1.shape[1]**.5,-1)
def shapes_from_rows(rows,size):
    out=[]
    for r in rows:
        r=F.interpolate(r[None],size,mode="bilinear",align_corners=True)[0] if len(r) else r.new_zeros(0,*size)
        lo=r.amin((1,2),keepdim=True); hi=r.amax((1,2),keepdim=True); out.append((r-lo)/(hi-lo)>.5)
    return torch.stack(out)
class Projection(nn.Sequential):
    def __init__(self,i,channels=256,dropout=.1): super().__init__(nn.Conv2d(i,channels,3,padding=1),nn.BatchNorm2d(channels),nn.ReLU(True),nn.Dropout2d(dropout))
class Correlation(nn.Module):
    def __init__(self,i,k): super().__init__(); self.conv1=nn.Conv2d(i,k,1); self.conv2=nn.Conv2d(i,k,1)
    def forward(self,f,logits,num_shapes=128,index=None,generator=None):
        h,w=f.shape[-2:]; size=logits.shape[-2:]
        z=F.interpolate(logits.detach(),(h,w),mode="bilinear",align_corners=True).flatten(2)
        c=correlation_map(self.conv1(f).flatten(2),self.conv2(f).flatten(2))
        corr=F.interpolate((z@c).unflatten(2,(h,w)),size,mode="bilinear",align_corners=True)
        if index is None: index=torch.randint(h*w,(num_shapes,),generator=generator)
        return corr, shapes_from_rows(c.detach()[:,index].unflatten(2,(h,w)),size)
