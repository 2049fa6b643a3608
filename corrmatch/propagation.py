import torch
def propagate_regions(shapes,labels,confident,threshold):
    labels,mask=labels.clone(),confident.clone(); t=torch.tensor(threshold,dtype=torch.float32)
    both=shapes&confident.unsqueeze(1)
    for i in range(len(shapes)):
        n=both[i].sum((1,2)); a=shapes[i].sum((1,2)); ok=((n>0)&(n.float()/a.clamp(min=1).float()>=t)).nonzero().flatten().tolist()
        for s in ok:
            cnt=torch.bincount(labels[i][both[i,s]]); top=cnt.argmax()
            if cnt[top].float()/cnt.sum().float()>t: labels[i][shapes[i,s]]=top; mask[i]|=shapes[i,s]
    return labels,mask
